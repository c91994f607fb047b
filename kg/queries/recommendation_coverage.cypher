// title: Recommendation coverage
// group: model
// about: Which share of the catalogue stands in the published list of anybody, by how many customers have the items.
// param: within int = 10: places of a list that count
// column: customers int: customers who have an item of this row, at least; the next row says below how many
// column: items int: such items
// column: listed int: those in the list of anybody
// column: share float: these by all such items
// column: places int: places they hold in all lists together
// needs: INTERACTED, RECOMMENDED
MATCH (i:@item)
OPTIONAL MATCH (u:@user)-[:INTERACTED]->(i)
WITH i, count(u.id) AS have
OPTIONAL MATCH (:@user)-[r:RECOMMENDED]->(i)
WITH i, have, sum(CASE WHEN r.rank <= $within THEN 1 ELSE 0 END) AS held
WITH held, CASE WHEN have < 1 THEN 0 WHEN have < 10 THEN 1 WHEN have < 100 THEN 10
                WHEN have < 1000 THEN 100 WHEN have < 10000 THEN 1000 ELSE 10000 END AS customers
WITH customers, count(*) AS items, sum(CASE WHEN held > 0 THEN 1 ELSE 0 END) AS listed, sum(held) AS places
RETURN customers, items, listed, 1.0 * listed / items AS share, places
ORDER BY customers
