// title: Find items
// group: products
// about: Items whose id or title contains a text, in whatever case, most bought first.
// param: text string: what to look for, e.g. retrospot
// param: limit int = 20: rows at most
// column: item string: the item
// column: title string: its title
// column: customers int: who have it
MATCH (i:@item)
WHERE toLower(i.id) CONTAINS toLower($text) OR toLower(i.@title) CONTAINS toLower($text)
OPTIONAL MATCH (u)-[r]->(i)
WHERE type(r) = 'INTERACTED'
RETURN i.id AS item, i.@title AS title, count(u.id) AS customers
ORDER BY customers DESC, item
LIMIT $limit
