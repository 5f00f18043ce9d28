-- What all scripts share. The places in a head (UPDATED_AT, UPDATED_TO, …) come before this, from head.rs.
-- Nothing here knows a clock, and no number is computed that a double could not hold.
local base = KEYS[1]
local call, sub, format, concat = redis.call, string.sub, string.format, table.concat

-- Lua's stack takes some 8000 values at once; lists are handed over in pieces.
local PIECE = 2000

local next_argument = 0
local function argument()
  next_argument = next_argument + 1
  return ARGV[next_argument]
end

local function number()
  return tonumber(argument())
end

local function in_pieces(command, key, list)
  local count = #list
  for first = 1, count, PIECE do
    call(command, key, unpack(list, first, math.min(first + PIECE - 1, count)))
  end
end

-- The number after this one, in decimal, of any length.
local function increment(digits)
  local last = string.byte(digits, -1)
  if last < 57 then
    return sub(digits, 1, -2) .. string.char(last + 1)
  end
  if #digits == 1 then
    return '10'
  end
  return increment(sub(digits, 1, -2)) .. '0'
end

local function job_key(id)
  return base .. 'job:' .. id
end

-- What is to be added to and taken from sorted sets and counts; written at the end, each key once.
local added, removed, counted = {}, {}, {}

local function add(key, member)
  local list = added[key]
  if not list then
    list = {}
    added[key] = list
  end
  list[#list + 1] = '0'
  list[#list + 1] = member
end

local function remove(key, member)
  local list = removed[key]
  if not list then
    list = {}
    removed[key] = list
  end
  list[#list + 1] = member
end

local function count(field, by)
  counted[field] = (counted[field] or 0) + by
end

local function write_indexes()
  for key, list in pairs(removed) do
    in_pieces('ZREM', base .. key, list)
  end
  for key, list in pairs(added) do
    in_pieces('ZADD', base .. key, list)
  end
  for field, by in pairs(counted) do
    if by ~= 0 then
      call('HINCRBY', base .. 'counts', field, format('%d', by))
    end
  end
end

-- Does one thing (add or remove) with a job in every index that its present state puts it in.
local function place(id, head, act, by)
  local lane, state = sub(head, LANE_AT, LANE_TO), sub(head, STATE_AT, STATE_TO)
  act('state:' .. state, sub(head, UPDATED_AT, UPDATED_TO) .. id .. lane)
  count(lane .. state, by)
  if state == '2' then
    act('ready:' .. lane, sub(head, PRIORITY_AT, ENQUEUED_TO) .. id)
  elseif state == '1' then
    act('due', sub(head, SCHEDULED_AT, SCHEDULED_TO) .. id .. lane)
  elseif state == '0' and sub(head, AWAITED_AT, AWAITED_AT) ~= '-' then
    act('awaiting:' .. sub(head, AWAITED_AT, AWAITED_TO), sub(head, CREATED_AT, CREATED_TO) .. id .. lane)
  end
  if sub(head, RECURRING_AT, RECURRING_TO) == 'r' then
    local recurring = call('HGET', job_key(id), 'r') or ''
    act('recurring:' .. state .. ':' .. recurring, sub(head, CREATED_AT, CREATED_TO) .. id .. lane)
  end
end

-- Moves a job from the places of one head to those of another.
local function move(id, from, to)
  place(id, from, remove, -1)
  place(id, to, add, 1)
end

-- The instant of a new entry: now, or that of the entry before if that is later.
local function not_before(head, now)
  local updated = sub(head, UPDATED_AT, UPDATED_TO)
  if updated > now then
    return updated
  end
  return now
end

-- Whether a text is a head, and of a job in this state.
local function is_in(head, state)
  return head and #head >= VERSION_AT and sub(head, STATE_AT, STATE_TO) == state
end

-- Removes a job and all that belongs to it; tells whether it was there.
local function forget(id)
  local key = job_key(id)
  local stored = call('HMGET', key, 'h', 'b')
  local head, labels = stored[1], stored[2]
  if not head then
    return false
  end
  place(id, head, remove, -1)
  local member = sub(head, CREATED_AT, CREATED_TO) .. id .. sub(head, LANE_AT, LANE_TO)
  remove('created', member)
  if labels then
    for label in string.gmatch(labels, '[^\n]+') do
      remove('label:' .. label, member)
    end
  end
  call('UNLINK', key, base .. 'data:' .. id)
  return true
end
