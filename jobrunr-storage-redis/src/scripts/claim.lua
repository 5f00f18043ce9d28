-- Gives the first jobs in line to a server; returns of each its head, and if there is little to read then also that,
-- and whether it has metadata. Returns `false` if there are lanes that the caller does not know.
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
  local piece = math.min(wanted, PIECE, math.max(8, math.ceil(2 * wanted / #lanes)))
  -- Of many lanes most give no job: that their first one comes too late is all that is asked of them.
  local first_piece = #lanes > wanted and 1 or piece
  local heap = {}
  for index = 1, #lanes do
    if read_on(lanes[index], first_piece) then
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

-- Gives one job to the server; tells whether it was there to be given. Unless its line is cut off as a whole, it is taken out
-- of it here.
local claimed, taken = {}, 0
local holder, usual_entry = '3' .. server, now .. entry
local function give(in_line, takes_out)
  local id = sub(in_line, -33, -2)
  local key = JOB .. id
  local head, defined, noted
  if byte(in_line, -1) == 115 then
    head, defined, noted = unpack(call('HMGET', key, 'h', 'd', 'm'), 1, 3)
  else
    head = call('HGET', key, 'h')
  end
  if not is_in(head, ENQUEUED) then
    return false
  end
  local at = not_before(head, now)
  local its_entry = at == now and usual_entry or at .. entry
  local counts, entry_number = one_entry_more(head)
  local member = at .. sub(head, ID_AT)
  local changed = sub(head, 1, FAILURE_TO) .. token .. sub(head, RECURRING_AT, CREATED_TO) .. holder .. counts .. member
  call('HSET', key, 'h', changed, entry_number, its_entry)
  if byte(head, RECURRING_AT) == 114 then
    move(id, head, changed)
  else
    -- As `move` does it, with what is known here: this is done most of all.
    local lane = sub(head, LANE_AT, LANE_TO)
    remove('state:2', sub(head, UPDATED_AT))
    if takes_out then
      remove('ready:' .. lane, in_line)
    end
    add('state:3', member)
    count(lane, ENQUEUED, -1)
    count(lane, PROCESSING, 1)
  end
  claimed[3 * taken + 1] = changed
  claimed[3 * taken + 2] = entry_number == '1' and defined or false
  claimed[3 * taken + 3] = noted or false
  taken = taken + 1
  return true
end

for _ = 1, number() do
  local lanes = {}
  for index = 1, number() do
    lanes[index] = argument()
  end
  if taken < limit then
    lanes = waiting(lanes)
    local line = #lanes > 0 and first_of(lanes, limit - taken) or {}
    -- What is not given was spoiled by hand. It must not stand in front of the others for ever.
    if #lanes == 1 and #line > 0 then
      for index = 1, #line do
        give(line[index], false)
      end
      call('ZREMRANGEBYRANK', lanes[1].key, 0, #line - 1)
    else
      for index = 1, #line do
        if not give(line[index], true) then
          for lane = 1, #lanes do
            call('ZREM', lanes[lane].key, line[index])
          end
        end
      end
    end
  end
end
write_indexes()
return claimed
