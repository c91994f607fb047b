// title: Orphans
// group: catalogue quality
// about: Items without any attribute: nothing in the graph can speak for them.
// param: limit int 100
// columns: item
MATCH (i:Item)
OPTIONAL MATCH (i)-[r]->(x)
WHERE type(r) <> 'BOUGHT_TOGETHER'
WITH i.id AS item, count(x.id) AS facts
WHERE facts = 0
RETURN item
ORDER BY item
LIMIT $limit
