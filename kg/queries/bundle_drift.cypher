// title: Bundle drift
// group: model
// about: How the lists of similar items differ from the version published before; a list loses as many places as are new.
// param: within int = 10: places of a list that count
// column: version string: the version; two of them while one is being published
// column: change string: kept: the same item in the same place; moved: from another place; new: not in the list before
// column: places int: how many places
// column: share float: of all places that count
// column: steps float: mean distance from the place before, empty for new ones
// needs: SIMILAR_TO
MATCH (:@item)-[r:SIMILAR_TO]->(:@item)
WHERE r.rank <= $within
WITH count(*) AS total
MATCH (:@item)-[r:SIMILAR_TO]->(:@item)
WHERE r.rank <= $within
WITH total, r.version AS version, abs(r.rank - r.previous_rank) AS step,
     CASE WHEN r.previous_rank IS NULL THEN 'new' WHEN r.previous_rank = r.rank THEN 'kept' ELSE 'moved' END AS change
WITH total, version, change, count(*) AS places, avg(step) AS steps
RETURN version, change, places, 1.0 * places / total AS share, steps
ORDER BY version, change
