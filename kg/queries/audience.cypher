// title: Audience
// group: customers
// about: The customers with most items of one value (a brand, a category, a motif): whom to tell about a new one.
// param: relation relation: the relation, e.g. IS_A
// param: value string: the id of what it leads to, e.g. MUG
// param: limit int = 100: rows at most
// column: user string: the customer
// column: items int: their items with the value
// column: share float: of all their items
// needs: INTERACTED
MATCH (u:@user)-[:INTERACTED]->(:@item)-[r]->(x)
WHERE type(r) = $relation AND x.id = $value
WITH u, count(*) AS items
MATCH (u)-[:INTERACTED]->(:@item)
WITH u, items, count(*) AS history
RETURN u.id AS user, items, 1.0 * items / history AS share
ORDER BY items DESC, share DESC, user
LIMIT $limit
