// title: Complements
// group: products
// about: Items of another kind that the customers of one item take as well: one with the other.
// param: item item: the item, e.g. RED RETROSPOT MUG
// param: overlap float = 0.25: common attributes by all attributes of either, at most
// param: both int = 2: common customers at least
// param: limit int = 10: rows at most
// column: item string: the complement
// column: title string: its title
// column: both int: customers who have both
// column: together float: these by all customers of either
// column: overlap float: common attributes by all attributes of either
// needs: INTERACTED, @facts
MATCH (u:@user)-[:INTERACTED]->(:@item {id: $item})
WITH count(*) AS buyers
OPTIONAL MATCH (:@item {id: $item})-[r:@facts]->(x)
WITH buyers, count(x.id) AS mine
MATCH (:@item {id: $item})<-[:INTERACTED]-(:@user)-[:INTERACTED]->(other:@item)
WHERE other.id <> $item
WITH buyers, mine, other, count(*) AS both
WHERE both >= $both
MATCH (v:@user)-[:INTERACTED]->(other)
WITH buyers, mine, other, both, count(*) AS customers
OPTIONAL MATCH (other)-[s:@facts]->(y)
WITH buyers, mine, other, both, customers, count(y.id) AS theirs
OPTIONAL MATCH (:@item {id: $item})-[r:@facts]->(x)<-[s:@facts]-(other)
WHERE type(s) = type(r)
WITH buyers, mine, other, both, customers, theirs, count(x.id) AS shared
WITH other, both, 1.0 * both / (buyers + customers - both) AS together,
     CASE WHEN theirs = 0 THEN 0.0 ELSE 1.0 * shared / (mine + theirs - shared) END AS overlap
WHERE overlap <= $overlap
RETURN other.id AS item, other.@title AS title, both, together, overlap
ORDER BY together DESC, both DESC, item
LIMIT $limit
