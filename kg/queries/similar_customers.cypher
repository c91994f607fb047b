// title: Similar customers
// group: customers
// about: The customers who have most items in common with one.
// param: user user: the customer, e.g. 17850
// param: limit int = 10: rows at most
// column: user string: the other customer
// column: shared int: items both have
// column: overlap float: these by all items of either
// needs: INTERACTED
MATCH (:@user {id: $user})-[:INTERACTED]->(:@item)
WITH count(*) AS mine
MATCH (:@user {id: $user})-[:INTERACTED]->(:@item)<-[:INTERACTED]-(other:@user)
WHERE other.id <> $user
WITH mine, other, count(*) AS shared
MATCH (other)-[:INTERACTED]->(:@item)
WITH other, shared, mine, count(*) AS theirs
RETURN other.id AS user, shared, 1.0 * shared / (mine + theirs - shared) AS overlap
ORDER BY shared DESC, overlap DESC, user
LIMIT $limit
