// title: Similar by attributes
// group: products
// about: The items that share most attributes with one item.
// param: item item: the item, e.g. RED RETROSPOT MUG
// param: limit int = 10: rows at most
// column: item string: the other item
// column: title string: its title
// column: shared int: attributes in common
// column: overlap float: these by all attributes of either
// needs: @facts
MATCH (:@item {id: $item})-[r:@facts]->()
WITH count(*) AS mine
MATCH (:@item {id: $item})-[r:@facts]->(x)<-[s:@facts]-(other:@item)
WHERE type(s) = type(r) AND other.id <> $item
WITH mine, other, count(*) AS shared
MATCH (other)-[r:@facts]->()
WITH other, shared, mine, count(*) AS theirs
RETURN other.id AS item, other.@title AS title, shared, 1.0 * shared / (mine + theirs - shared) AS overlap
ORDER BY shared DESC, overlap DESC, item
LIMIT $limit
