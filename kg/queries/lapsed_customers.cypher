// title: Lapsed customers
// group: customers
// about: Customers with a good history and no event for long before the newest of the log, best first.
// param: days int = 90: without an event, at least
// param: items int = 5: in the history, at least
// param: limit int = 100: rows at most
// column: user string: the customer
// column: items int: items they have
// column: last_at time: their newest event
// column: days int: whole days from it to the newest event of the log
// needs: INTERACTED.last_at
MATCH (:@user)-[r:INTERACTED]->(:@item)
WITH max(r.last_at) AS now
MATCH (u:@user)-[r:INTERACTED]->(:@item)
WITH now, u.id AS user, count(*) AS items, max(r.last_at) AS last_at
WHERE items >= $items AND now - last_at >= $days * 86400000
RETURN user, items, last_at, (now - last_at) / 86400000 AS days
ORDER BY items DESC, last_at DESC, user
LIMIT $limit
