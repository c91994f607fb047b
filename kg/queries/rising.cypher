// title: Rising
// group: sales
// about: Items that win more new customers in the newest days of the log than in as many days before.
// param: days int = 28: length of both periods
// param: limit int = 20: rows at most
// column: item string: the item
// column: title string: its title
// column: before int: customers whose first event with it lies in the older period
// column: recent int: in the newer period
// column: gain int: recent less before
// needs: INTERACTED.first_at, INTERACTED.last_at
MATCH (:@user)-[r:INTERACTED]->(:@item)
WITH max(r.last_at) AS now
MATCH (:@user)-[r:INTERACTED]->(i:@item)
WHERE r.first_at > now - 2 * $days * 86400000
WITH i, sum(CASE WHEN r.first_at > now - $days * 86400000 THEN 0 ELSE 1 END) AS before,
     sum(CASE WHEN r.first_at > now - $days * 86400000 THEN 1 ELSE 0 END) AS recent
WHERE recent > before
RETURN i.id AS item, i.@title AS title, before, recent, recent - before AS gain
ORDER BY gain DESC, recent DESC, item
LIMIT $limit
