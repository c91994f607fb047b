// title: Customer affinity
// group: customers
// about: What one customer's items lead to by a relation (brands, categories, colours …), beside what everybody's do.
// param: user user: the customer, e.g. 17850
// param: relation relation: the relation to follow, e.g. HAS_COLOUR
// param: limit int = 20: rows at most
// column: value string: what the relation leads to
// column: name string: its name
// column: items int: the customer's items with it
// column: share float: of all the customer's items
// column: lift float: this share by the share among all customers' items; above 1 is more than usual
// needs: INTERACTED
MATCH (:@user)-[:INTERACTED]->(:@item)
WITH count(*) AS log
MATCH (:@user {id: $user})-[:INTERACTED]->(:@item)
WITH log, count(*) AS history
MATCH (:@user {id: $user})-[:INTERACTED]->(:@item)-[r]->(x)
WHERE type(r) = $relation
WITH log, history, x, count(*) AS items
MATCH (:@user)-[:INTERACTED]->(:@item)-[s]->(x)
WHERE type(s) = $relation
WITH log, history, x, items, count(*) AS everywhere
RETURN x.id AS value, coalesce(x.@name, x.@title, x.id) AS name, items, 1.0 * items / history AS share,
       (1.0 * items * log) / (1.0 * history * everywhere) AS lift
ORDER BY items DESC, lift DESC, value, name
LIMIT $limit
