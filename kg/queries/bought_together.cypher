// title: Bought together
// group: sales
// about: The items that share most baskets with one item.
// param: item item: the item, e.g. RED RETROSPOT MUG
// param: limit int = 10: rows at most
// column: item string: the other item
// column: title string: its title
// column: baskets int: baskets that hold both
// needs: @baskets
MATCH (i:@item {id: $item})-[r:@baskets]->(other:@item)
RETURN other.id AS item, other.@title AS title, r.count AS baskets
ORDER BY baskets DESC, item
LIMIT $limit
