// title: Missing attribute
// group: catalogue quality
// about: Items that lack a relation, most bought first: where filling the gap pays.
// param: relation relation: the relation to look for, e.g. IN_PRICE_BAND
// param: limit int = 100: rows at most
// column: item string: the item
// column: title string: its title
// column: customers int: who have it
MATCH (i:@item)
WHERE NOT EXISTS { MATCH (i)-[r]->() WHERE type(r) = $relation }
OPTIONAL MATCH (u)-[r]->(i)
WHERE type(r) = 'INTERACTED'
RETURN i.id AS item, i.@title AS title, count(u.id) AS customers
ORDER BY customers DESC, item
LIMIT $limit
