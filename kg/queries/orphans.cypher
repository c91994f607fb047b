// title: Orphans
// group: catalogue quality
// about: Items without any attribute, most bought first: nothing in the graph can speak for them.
// param: limit int = 100: rows at most
// column: item string: the item
// column: title string: its title
// column: customers int: who have it
MATCH (i:@item)
WHERE NOT EXISTS { MATCH (i)-[r]->() WHERE type(r) IN $facts }
OPTIONAL MATCH (u)-[r]->(i)
WHERE type(r) = 'INTERACTED'
RETURN i.id AS item, i.@title AS title, count(u.id) AS customers
ORDER BY customers DESC, item
LIMIT $limit
