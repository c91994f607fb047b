// title: Why this item
// group: model
// about: The paths from a customer's history to an item: each node one step from the item that touches the history too.
// param: user user: the customer, e.g. 17850
// param: item item: the item, e.g. RED RETROSPOT MUG
// param: limit int = 20: rows at most
// column: relation string: from the item to the node, and from the node to the history
// column: via string: the node: an attribute, another customer, or an item of the history itself
// column: name string: its name
// column: theirs bool: whether the customer has the node itself
// column: history int: other items of theirs it touches
// column: because string: the first of these by id
// column: touches int: all items it touches; the fewer, the more the path says
// needs: INTERACTED, @relations
MATCH (:@item {id: $item})-[s:@relations]-(x)
WHERE NOT (type(s) = 'INTERACTED' AND x.id = $user)
WITH DISTINCT x, type(s) AS relation
OPTIONAL MATCH (x)-[r:@relations]-(h:@item)<-[:INTERACTED]-(:@user {id: $user})
WHERE type(r) = relation AND h.id <> $item
WITH x, relation, min(h.id) AS because, count(DISTINCT h.id) AS history
OPTIONAL MATCH (u:@user {id: $user})-[:INTERACTED]->(x)
WITH x, relation, because, history, count(u.id) > 0 AS theirs
WHERE theirs OR history > 0
MATCH (x)-[t:@relations]-(j:@item)
WHERE type(t) = relation
WITH x, relation, because, history, theirs, count(DISTINCT j.id) AS touches
RETURN relation, x.id AS via, coalesce(x.@name, x.@title, x.id) AS name, theirs, history, because, touches
ORDER BY theirs DESC, 1.0 * history / touches DESC, relation, via, name
LIMIT $limit
