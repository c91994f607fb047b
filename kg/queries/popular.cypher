// title: Popular
// group: sales
// about: The items most users have, in the training part of the log.
// param: limit int 10
// columns: item, users
// needs: INTERACTED
MATCH (u:User)-[:INTERACTED]->(i:Item)
RETURN i.id AS item, count(*) AS users
ORDER BY users DESC, item
LIMIT $limit
