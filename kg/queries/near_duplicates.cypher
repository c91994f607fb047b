// title: Near duplicates
// group: catalogue quality
// about: Pairs of items with rare attributes in common and nearly all others too.
// param: overlap float = 0.8: common attributes by all attributes of either, at least
// param: common int = 2: rare attributes in common at least
// param: rare int = 5: an attribute is rare when at most so many items have it
// param: limit int = 100: rows at most
// column: item string: one item
// column: title string: its title
// column: other string: the other item
// column: other_title string: its title
// column: shared int: attributes in common
// column: overlap float: these by all attributes of either
// needs: @facts
MATCH (i:@item)-[r:@facts]->(x)
WITH x, type(r) AS relation, count(*) AS items
WHERE items > 1 AND items <= $rare
MATCH (a:@item)-[r:@facts]->(x)
WHERE type(r) = relation
WITH a, x, relation
MATCH (b:@item)-[s:@facts]->(x)
WHERE type(s) = relation AND a.id < b.id
WITH a, b, count(*) AS telling
WHERE telling >= $common
MATCH (a)-[r:@facts]->(x)
WITH a, b, x, type(r) AS relation
MATCH (b)-[s:@facts]->(x)
WHERE type(s) = relation
WITH a, b, count(*) AS shared
MATCH (a)-[r:@facts]->()
WITH a, b, shared, count(*) AS mine
MATCH (b)-[s:@facts]->()
WITH a, b, shared, mine, count(*) AS theirs
WITH a, b, shared, 1.0 * shared / (mine + theirs - shared) AS overlap
WHERE overlap >= $overlap
RETURN a.id AS item, a.@title AS title, b.id AS other, b.@title AS other_title, shared, overlap
ORDER BY overlap DESC, shared DESC, item, other
LIMIT $limit
