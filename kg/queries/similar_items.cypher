// title: Similar items
// group: model
// about: The items a published model puts next to one item, and their places in the version before.
// param: item item: the item, e.g. RED RETROSPOT MUG
// param: limit int = 20: rows at most
// column: item string: the other item
// column: title string: its title
// column: rank int: its place in the list
// column: previous_rank int: its place in the version published before, empty where the list did not have it
// column: score float: the model's score, comparable within the list
// needs: SIMILAR_TO
MATCH (:@item {id: $item})-[r:SIMILAR_TO]->(other:@item)
RETURN other.id AS item, other.@title AS title, r.rank AS rank, r.previous_rank AS previous_rank, r.score AS score
ORDER BY rank, item
LIMIT $limit
