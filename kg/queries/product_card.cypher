// title: Product card
// group: products
// about: Everything the graph says of one item: each relation and the node it leads to.
// param: item string RED RETROSPOT MUG
// columns: relation, value
MATCH (i:Item {id: $item})-[r]->(x)
WHERE type(r) <> 'BOUGHT_TOGETHER'
RETURN type(r) AS relation, x.id AS value
ORDER BY relation, value
