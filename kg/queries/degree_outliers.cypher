// title: Degree outliers
// group: catalogue quality
// about: Items with far more edges of one relation than the items that have it usually do: imports gone wrong, texts read twice.
// param: deviations float = 4.0: standard deviations above the mean, at least
// param: limit int = 100: rows at most
// column: relation string: the relation
// column: item string: the item
// column: title string: its title
// column: edges int: how many edges it has
// column: mean float: of all items that have the relation
// column: deviations float: how many standard deviations above the mean
// needs: @facts
MATCH (i:@item)-[r:@facts]->()
WITH type(r) AS relation, i.id AS item, i.@title AS title, count(*) AS edges
WITH relation, count(*) AS n, sum(edges) AS total, sum(edges * edges) AS squares,
     collect({item: item, title: title, edges: edges}) AS every
WHERE n * squares > total * total
UNWIND every AS one
WITH relation, one.item AS item, one.title AS title, one.edges AS edges, 1.0 * total / n AS mean,
     (1.0 * n * one.edges - total) / sqrt(1.0 * (n * squares - total * total)) AS deviations
WHERE deviations >= $deviations
RETURN relation, item, title, edges, mean, deviations
ORDER BY deviations DESC, relation, item
LIMIT $limit
