// title: Substitutes
// group: products
// about: Items much like one item that its customers seldom take as well: one instead of the other.
// param: item item: the item, e.g. RED RETROSPOT MUG
// param: together float = 0.1: common customers by all customers of either, at most
// param: limit int = 10: rows at most
// column: item string: the substitute
// column: title string: its title
// column: overlap float: common attributes by all attributes of either
// column: customers int: who have the substitute
// column: both int: who have both
// column: together float: these by all customers of either
// needs: INTERACTED, @facts
MATCH (:@item {id: $item})-[r:@facts]->()
WITH count(*) AS mine
OPTIONAL MATCH (u:@user)-[:INTERACTED]->(:@item {id: $item})
WITH mine, count(u.id) AS buyers
MATCH (:@item {id: $item})-[r:@facts]->(x)<-[s:@facts]-(other:@item)
WHERE type(s) = type(r) AND other.id <> $item
WITH mine, buyers, other, count(*) AS shared
MATCH (other)-[r:@facts]->()
WITH buyers, other, shared, mine, count(*) AS theirs
WITH buyers, other, 1.0 * shared / (mine + theirs - shared) AS overlap
OPTIONAL MATCH (v:@user)-[:INTERACTED]->(other)
WITH buyers, other, overlap, count(v.id) AS customers
OPTIONAL MATCH (:@item {id: $item})<-[:INTERACTED]-(w:@user)-[:INTERACTED]->(other)
WITH buyers, other, overlap, customers, count(w.id) AS both
WITH other, overlap, customers, both,
     CASE WHEN buyers + customers = 0 THEN 0.0 ELSE 1.0 * both / (buyers + customers - both) END AS together
WHERE together <= $together
RETURN other.id AS item, other.@title AS title, overlap, customers, both, together
ORDER BY overlap DESC, together, customers DESC, item
LIMIT $limit
