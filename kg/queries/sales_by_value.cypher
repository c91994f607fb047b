// title: Sales by value
// group: sales
// about: What a relation leads to (brands, categories, price bands …) by how often customers take it.
// param: relation relation: the relation, e.g. IN_PRICE_BAND
// param: limit int = 50: rows at most
// column: value string: what the relation leads to
// column: name string: its name
// column: items int: items with it that somebody has
// column: pairs int: pairs of customer and such an item
// column: customers int: who have one
// column: share float: these pairs by all pairs of customer and item
// needs: INTERACTED
MATCH (:@user)-[:INTERACTED]->(:@item)
WITH count(*) AS log
MATCH (u:@user)-[:INTERACTED]->(i:@item)-[r]->(x)
WHERE type(r) = $relation
WITH log, x, count(*) AS pairs, count(DISTINCT i.id) AS items, count(DISTINCT u.id) AS customers
RETURN x.id AS value, coalesce(x.@name, x.@title, x.id) AS name, items, pairs, customers, 1.0 * pairs / log AS share
ORDER BY pairs DESC, value, name
LIMIT $limit
