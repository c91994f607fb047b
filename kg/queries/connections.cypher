// title: Connections
// group: graph
// about: What two items have in common: every kind of node one step from both.
// param: item item: one item, e.g. RED RETROSPOT MUG
// param: other item: the other item, e.g. WHITE HANGING HEART T-LIGHT HOLDER
// column: from_item string: relation between the one item and the node
// column: from_other string: relation between the other item and the node
// column: ways int: how many such nodes
// column: example string: the first of them by id
// needs: @relations
MATCH (:@item {id: $item})-[r:@relations]-(x)
WITH DISTINCT x, type(r) AS from_item
MATCH (x)-[s:@relations]-(:@item {id: $other})
WITH DISTINCT x, from_item, type(s) AS from_other
RETURN from_item, from_other, count(*) AS ways, min(x.id) AS example
ORDER BY ways DESC, from_item, from_other
