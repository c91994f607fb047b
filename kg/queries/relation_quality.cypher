// title: Relation quality
// group: graph
// about: How much each relation says: edges, what it joins, and whether it hangs on a few hubs.
// column: relation string: the relation
// column: edges int: how many
// column: sources int: nodes it leaves
// column: targets int: nodes it reaches
// column: per_source float: edges of a node it leaves, in the mean
// column: once int: targets it reaches once only: they join nothing
// column: hub int: edges into the busiest target
// column: hub_share float: these by all edges; near 1 the relation tells nothing apart
// needs: @relations
MATCH (a)-[r:@relations]->(b)
WITH type(r) AS relation, b, count(*) AS degree
WITH relation, sum(degree) AS edges, count(*) AS targets, sum(CASE WHEN degree = 1 THEN 1 ELSE 0 END) AS once,
     max(degree) AS hub
MATCH (a)-[r:@relations]->()
WHERE type(r) = relation
WITH relation, edges, targets, once, hub, count(DISTINCT a) AS sources
RETURN relation, edges, sources, targets, 1.0 * edges / sources AS per_source, once, hub, 1.0 * hub / edges AS hub_share
ORDER BY relation
