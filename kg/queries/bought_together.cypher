// title: Bought together
// group: sales
// about: The items that share most baskets with one item, in the training part of the log.
// param: item string RED RETROSPOT MUG
// param: limit int 10
// columns: item, baskets
// needs: BOUGHT_TOGETHER
MATCH (i:Item {id: $item})-[r:BOUGHT_TOGETHER]->(other:Item)
RETURN other.id AS item, r.count AS baskets
ORDER BY baskets DESC, item
LIMIT $limit
