// title: Same title
// group: catalogue quality
// about: Items whose titles (ids where there is none) differ in nothing but case, spaces, commas, dots and hyphens.
// param: limit int = 100: rows at most
// column: spelling string: the title without these
// column: items int: how many are called so
// column: item string: one of them
// column: title string: its title
MATCH (i:@item)
WHERE i.@title IS NOT NULL
WITH toLower(replace(replace(replace(replace(i.@title, ' ', ''), ',', ''), '.', ''), '-', '')) AS spelling,
     collect({id: i.id, title: i.@title}) AS same
WHERE size(same) > 1
UNWIND same AS one
RETURN spelling, size(same) AS items, one.id AS item, one.title AS title
ORDER BY spelling, item
LIMIT $limit
