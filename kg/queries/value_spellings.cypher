// title: Value spellings
// group: catalogue quality
// about: Values of one relation that differ in nothing but case, spaces, commas, dots and hyphens: one brand written twice.
// param: limit int = 100: rows at most
// column: relation string: the relation
// column: spelling string: the value without these
// column: value string: one way to write it
// column: items int: items that have it so
// needs: @facts
MATCH (i:@item)-[r:@facts]->(x)
WITH type(r) AS relation, coalesce(x.@name, x.@title, x.id) AS value, count(*) AS items
WITH relation, toLower(replace(replace(replace(replace(value, ' ', ''), ',', ''), '.', ''), '-', '')) AS spelling,
     collect({value: value, items: items}) AS same
WHERE size(same) > 1
UNWIND same AS one
RETURN relation, spelling, one.value AS value, one.items AS items
ORDER BY relation, spelling, value
LIMIT $limit
