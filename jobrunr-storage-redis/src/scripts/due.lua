-- Releases jobs whose time has come; returns when the next one is due, how many lanes got jobs, those lanes, and the ids.
local now, limit, entry = argument(), argument(), argument()
-- No id and no lane comes after a tilde.
local members = call('ZRANGEBYLEX', base .. 'due', '-', '[' .. now .. '~', 'LIMIT', 0, limit)
local ids, lanes, seen = {}, {}, {}
for index = 1, #members do
  local id = sub(members[index], 21, 52)
  local key = JOB .. id
  local head = call('HGET', key, 'h')
  if not is_in(head, SCHEDULED) then
    -- Somebody spoiled it by hand. It must not stand in front of the others for ever.
    call('ZREM', base .. 'due', members[index])
  else
    local at, lane = not_before(head, now), sub(head, LANE_AT, LANE_TO)
    local counts, entry_number = one_entry_more(head)
    local changed = sub(head, 1, PRIORITY_TO)
      .. at
      .. sub(head, CREATED_AT, CREATED_TO)
      .. '2'
      .. sub(head, SERVER_AT, SERVER_TO)
      .. counts
      .. at
      .. sub(head, ID_AT)
    call('HSET', key, 'h', changed, entry_number, at .. entry)
    move(id, head, changed)
    ids[#ids + 1] = id
    if not seen[lane] then
      seen[lane] = true
      lanes[#lanes + 1] = lane
    end
  end
end
write_indexes()
local answer = { sub(call('ZRANGE', base .. 'due', 0, 0)[1] or '', 1, 20), format('%d', #lanes) }
for index = 1, #lanes do
  answer[#answer + 1] = lanes[index]
end
for index = 1, #ids do
  answer[#answer + 1] = ids[index]
end
return answer
