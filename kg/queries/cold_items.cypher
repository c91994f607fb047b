// title: Cold items
// group: model
// about: Items nobody has, and how much of what is known of them a model has seen on items somebody has.
// param: limit int = 100: rows at most
// column: item string: the item
// column: title string: its title
// column: attributes int: what the shop's files say of it
// column: seen int: attributes that an item somebody has shares
// needs: INTERACTED
MATCH (i:@item)
OPTIONAL MATCH (u:@user)-[:INTERACTED]->(i)
WITH i, count(u.id) AS customers
OPTIONAL MATCH (i)-[r]->(x)
WHERE type(r) IN $facts
WITH i, customers, x, CASE WHEN x.id IS NULL THEN '' ELSE type(r) END AS relation
WITH x, relation, max(CASE WHEN customers > 0 AND relation <> '' THEN 1 ELSE 0 END) AS known,
     collect(CASE WHEN customers = 0 THEN {id: i.id, title: i.@title} ELSE null END) AS cold
UNWIND cold AS one
WITH one.id AS item, one.title AS title, relation, known
RETURN item, title, sum(CASE WHEN relation = '' THEN 0 ELSE 1 END) AS attributes, sum(known) AS seen
ORDER BY seen, attributes, item
LIMIT $limit
