// title: Price against its peers
// group: products
// about: One item's price beside the prices of the other items it shares each value with.
// param: item item: the item, e.g. RED RETROSPOT MUG
// column: relation string: the relation
// column: value string: the value shared
// column: name string: the value's name
// column: price float: the item's price
// column: peers int: other priced items with the value
// column: lowest float: their lowest price
// column: median float: their median
// column: highest float: their highest price
// column: cheaper int: how many of them cost less
// needs: @facts, @item.price
MATCH (i:@item {id: $item})-[r:@facts]->(x)
WHERE i.price IS NOT NULL
MATCH (peer:@item)-[s:@facts]->(x)
WHERE type(s) = type(r) AND peer.id <> $item AND peer.price IS NOT NULL
WITH type(r) AS relation, x, i.price AS price, count(*) AS peers, min(peer.price) AS lowest,
     percentileCont(peer.price, 0.5) AS median, max(peer.price) AS highest,
     sum(CASE WHEN peer.price < i.price THEN 1 ELSE 0 END) AS cheaper
RETURN relation, x.id AS value, coalesce(x.@name, x.@title, x.id) AS name, price, peers, lowest, median, highest, cheaper
ORDER BY relation, value, name, peers
