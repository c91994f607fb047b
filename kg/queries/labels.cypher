// title: Labels
// group: graph
// about: How many nodes of each kind the graph holds.
// column: label string: the label
// column: nodes int: how many
MATCH (n)
WITH label(n) AS label, count(*) AS nodes
WHERE label IN $labels
RETURN label, nodes
ORDER BY label
