// title: Sales by period
// group: sales
// about: The log in periods of equal length from its first event: how many customers found an item new to them, and how often.
// param: days int = 30: length of a period
// column: period time: its start
// column: customers int: who took an item for the first time
// column: pairs int: new pairs of customer and item
// needs: INTERACTED.first_at
MATCH (:@user)-[r:INTERACTED]->(:@item)
WITH min(r.first_at) AS start, $days * 86400000 AS width
MATCH (u:@user)-[r:INTERACTED]->(:@item)
WITH start + (r.first_at - start) / width * width AS period, u.id AS user
RETURN period, count(*) AS pairs, count(DISTINCT user) AS customers
ORDER BY period
