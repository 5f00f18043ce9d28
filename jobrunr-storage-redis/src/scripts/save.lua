-- Adds entries to the histories of jobs, each if it is still as it was loaded; returns the numbers of those that are not.
local conflicts, successes = {}, 0

-- As `move` does it, with less to ask: most saves end a run of a job that comes from no recurring one.
local function move_on(id, from, to)
  local state = byte(to, STATE_AT)
  if byte(from, STATE_AT) ~= PROCESSING or state <= PROCESSING or byte(from, RECURRING_AT) == 114 then
    return move(id, from, to)
  end
  local lane = sub(from, LANE_AT)
  remove('state:3', sub(from, UPDATED_AT))
  add(STATE_KEYS[state], sub(to, UPDATED_AT))
  count(lane, PROCESSING, -1)
  count(lane, state, 1)
end

for index = 1, number() do
  -- What the head must say, then what it is to say: what comes before that which never changes, and what comes after it.
  local id, standing, beginning, new_end = argument(), argument(), argument(), argument()
  local won, entries = number(), 2 * number()
  local key = JOB .. id
  local head = call('HGET', key, 'h')
  if head and sub(head, CREATED_AT, UPDATED_TO) == standing then
    local changed = beginning .. sub(head, RECURRING_AT, PRIORITY_TO) .. new_end .. sub(head, ID_AT)
    if entries == 0 then
      call('HSET', key, 'h', changed)
    else
      call('HSET', key, 'h', changed, unpack(ARGV, next_argument + 1, next_argument + entries))
      move_on(id, head, changed)
      successes = successes + won
    end
  else
    conflicts[#conflicts + 1] = index
  end
  next_argument = next_argument + entries
end
write_indexes()
add_to_count('succeeded', successes)
return conflicts
