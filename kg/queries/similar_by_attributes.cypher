// title: Similar by attributes
// group: products
// about: The items that share most attribute nodes with one item, whatever the relation.
// param: item string RED RETROSPOT MUG
// param: limit int 10
// columns: item, shared
MATCH (i:Item {id: $item})-[r]->(x)
WHERE type(r) <> 'BOUGHT_TOGETHER'
MATCH (other:Item)-[s]->(x)
WHERE type(s) <> 'BOUGHT_TOGETHER' AND other.id <> $item
RETURN other.id AS item, count(DISTINCT x.id) AS shared
ORDER BY shared DESC, item
LIMIT $limit
