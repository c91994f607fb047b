// title: Price outliers
// group: catalogue quality
// about: Items whose price is many times, or a small part of, the median of the items they share a value with.
// param: relation relation: what makes items peers, e.g. IS_A
// param: factor float = 10.0: times the median, or the median times the price
// param: peers int = 5: priced items a value must have to be looked at
// param: limit int = 100: rows at most
// column: item string: the item
// column: title string: its title
// column: value string: the value it shares with its peers
// column: name string: the value's name
// column: price float: its price
// column: median float: of all priced items with the value
// column: peers int: how many these are
// needs: @item.price
MATCH (peer:@item)-[r]->(x)
WHERE type(r) = $relation AND peer.price IS NOT NULL
WITH x, percentileCont(peer.price, 0.5) AS median, count(*) AS peers
WHERE peers >= $peers
MATCH (i:@item)-[s]->(x)
WHERE type(s) = $relation AND (i.price > $factor * median OR $factor * i.price < median)
RETURN i.id AS item, i.@title AS title, x.id AS value, coalesce(x.@name, x.@title, x.id) AS name,
       i.price AS price, median, peers
ORDER BY item, value
LIMIT $limit
