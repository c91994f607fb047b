// title: Customer profile
// group: customers
// about: One customer's items, and whether these are what everybody has.
// param: user user: the customer, e.g. 17850
// column: items int: items they have
// column: events int: events behind these
// column: rank int: place among all customers by number of items, 1 is the first
// column: customers int: customers with any item
// column: popularity float: customers an item of theirs has, in the mean
// column: only_theirs int: items nobody else has
// needs: INTERACTED
MATCH (:@user {id: $user})-[r:INTERACTED]->(:@item)
WITH count(*) AS items, sum(r.count) AS events
MATCH (u:@user)-[:INTERACTED]->(:@item)
WITH items, events, u.id AS somebody, count(*) AS theirs
WITH items, events, count(*) AS customers, 1 + sum(CASE WHEN theirs > items THEN 1 ELSE 0 END) AS rank
MATCH (:@user {id: $user})-[:INTERACTED]->(i:@item)
MATCH (v:@user)-[:INTERACTED]->(i)
WITH items, events, rank, customers, i, count(*) AS buyers
RETURN items, events, rank, customers, avg(buyers) AS popularity, sum(CASE WHEN buyers = 1 THEN 1 ELSE 0 END) AS only_theirs
ORDER BY items
