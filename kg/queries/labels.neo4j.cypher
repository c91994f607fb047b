MATCH (n)
UNWIND labels(n) AS label
WITH label, count(*) AS nodes
WHERE label IN $labels
RETURN label, nodes
ORDER BY label
