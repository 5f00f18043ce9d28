-- Gives the first jobs in line to a server; returns id, version and number of entries of each, or `false` if there
-- are lanes that the caller does not know.
local now, limit, token, server, entry = argument(), number(), argument(), argument(), argument()
local era, known = argument(), number()
if (call('HGET', base .. 'lanes', '') or '') ~= era or call('HLEN', base .. 'lanes') ~= known then
  return { false }
end

-- The lanes of a group that have jobs, and how many.
local function waiting(lanes)
  local found = {}
  for first = 1, #lanes, PIECE do
    local fields = {}
    for index = first, math.min(first + PIECE - 1, #lanes) do
      fields[#fields + 1] = lanes[index] .. '2'
    end
    local counts = call('HMGET', base .. 'counts', unpack(fields))
    for index = 1, #fields do
      local jobs = tonumber(counts[index] or '0')
      if jobs > 0 then
        found[#found + 1] = { key = base .. 'ready:' .. lanes[first + index - 1], left = jobs, read = 0 }
      end
    end
  end
  return found
end

-- Reads on in a lane; tells whether there was more. `first` is then its first member that was not taken.
local function read_on(lane, piece)
  if lane.members and lane.index < #lane.members then
    lane.index = lane.index + 1
  elseif lane.read < lane.left then
    lane.members = call('ZRANGE', lane.key, lane.read, lane.read + piece - 1)
    lane.read = lane.read + piece
    lane.index = 1
  else
    return false
  end
  lane.first = lane.members[lane.index]
  return lane.first ~= nil
end

-- A heap with the lane on top whose first member comes first.
local function sink(heap, size, at)
  local lane = heap[at]
  while true do
    local child = 2 * at
    if child > size then
      break
    end
    if child < size and heap[child + 1].first < heap[child].first then
      child = child + 1
    end
    if lane.first <= heap[child].first then
      break
    end
    heap[at] = heap[child]
    at = child
  end
  heap[at] = lane
end

-- The first members of several lanes as one line.
local function first_of(lanes, wanted)
  if #lanes == 1 then
    local last = math.min(wanted, lanes[1].left)
    return call('ZRANGE', lanes[1].key, 0, last - 1)
  end
  local piece = math.min(wanted, PIECE, math.max(8, math.ceil(2 * wanted / math.max(1, #lanes))))
  local heap = {}
  for index = 1, #lanes do
    if read_on(lanes[index], piece) then
      heap[#heap + 1] = lanes[index]
    end
  end
  local size = #heap
  for at = math.floor(size / 2), 1, -1 do
    sink(heap, size, at)
  end
  local line = {}
  while size > 0 and #line < wanted do
    local lane = heap[1]
    line[#line + 1] = lane.first
    if not read_on(lane, piece) then
      heap[1] = heap[size]
      size = size - 1
    end
    if size > 0 then
      sink(heap, size, 1)
    end
  end
  return line
end

local claimed = {}
for _ = 1, number() do
  local lanes = {}
  for index = 1, number() do
    lanes[index] = argument()
  end
  local wanted = limit - #claimed / 3
  if wanted > 0 then
    lanes = waiting(lanes)
    local line = #lanes > 0 and first_of(lanes, wanted) or {}
    for index = 1, #line do
      local id = sub(line[index], -32)
      local key = job_key(id)
      local head = call('HGET', key, 'h')
      if not is_in(head, '2') then
        -- Somebody spoiled it by hand. It must not stand in front of the others for ever.
        for lane = 1, #lanes do
          call('ZREM', lanes[lane].key, line[index])
        end
      else
        local at = not_before(head, now)
        local entry_number = sub(head, ENTRIES_AT, ENTRIES_TO)
        local entries = increment(entry_number)
        local version = increment(sub(head, VERSION_AT))
        local changed = sub(head, LANE_AT, LANE_TO)
          .. '3'
          .. at
          .. sub(head, CREATED_AT, SCHEDULED_TO)
          .. server
          .. sub(head, PRIORITY_AT, AWAITED_TO)
          .. entries
          .. sub(head, FAILURE_AT, RECURRING_TO)
          .. token
          .. version
        call('HSET', key, 'h', changed, format('%d', tonumber(entry_number)), at .. entry)
        move(id, head, changed)
        claimed[#claimed + 1] = id
        claimed[#claimed + 1] = version
        claimed[#claimed + 1] = entries
      end
    end
  end
end
write_indexes()
return claimed
