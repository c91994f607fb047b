MATCH (a:@item {id: $item})
MATCH (b:@item {id: $other})
WHERE $item <> $other
MATCH path = shortestPath((a)-[:@relations*1..6]-(b))
RETURN length(path) AS steps
ORDER BY steps
