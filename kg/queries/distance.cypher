// title: Distance
// group: graph
// about: How many steps two items are apart, over every relation in either direction; no row where more than six.
// param: item item: one item, e.g. RED RETROSPOT MUG
// param: other item: another item, e.g. WHITE HANGING HEART T-LIGHT HOLDER
// column: steps int: edges on a shortest path
// needs: @relations
MATCH path = (a:@item {id: $item})-[:@relations* SHORTEST 1..6]-(b:@item {id: $other})
RETURN length(path) AS steps
ORDER BY steps
