// title: Popular
// group: sales
// about: The items most customers have.
// param: limit int = 10: rows at most
// column: item string: the item
// column: title string: its title
// column: customers int: who have it
// column: events int: events behind these
// needs: INTERACTED
MATCH (:@user)-[r:INTERACTED]->(i:@item)
RETURN i.id AS item, i.@title AS title, count(*) AS customers, sum(r.count) AS events
ORDER BY customers DESC, item
LIMIT $limit
