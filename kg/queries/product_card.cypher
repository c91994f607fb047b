// title: Product card
// group: products
// about: Everything the shop's files say of one item: each relation, what it leads to, and how many items share it.
// param: item item: the item, e.g. RED RETROSPOT MUG
// column: relation string: the relation
// column: value string: the id of what it leads to
// column: name string: its name
// column: items int: items that have it, this one among them
// needs: @facts
MATCH (i:@item {id: $item})-[r:@facts]->(x)
MATCH (other:@item)-[s:@facts]->(x)
WHERE type(s) = type(r)
WITH type(r) AS relation, x, count(*) AS items
RETURN relation, x.id AS value, coalesce(x.@name, x.@title, x.id) AS name, items
ORDER BY relation, value, name, items
