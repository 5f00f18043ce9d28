-- What all scripts share. The places in a head (UPDATED_AT, UPDATED_TO, …) come before this, from head.rs.
-- Nothing here knows a clock, and no number is computed that a double could not hold.
local base = KEYS[1]
local call, sub, byte, format = redis.call, string.sub, string.byte, string.format

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

-- Gives the arguments that come next to a command.
local function pass_on(command, key, count)
  for first = next_argument + 1, next_argument + count, PIECE do
    call(command, key, unpack(ARGV, first, math.min(first + PIECE - 1, next_argument + count)))
  end
  next_argument = next_argument + count
end

-- The number after this one, in decimal, of any length.
local function increment(digits)
  local last = byte(digits, -1)
  if last < 57 then
    return sub(digits, 1, -2) .. string.char(last + 1)
  end
  if #digits == 1 then
    return '10'
  end
  return increment(sub(digits, 1, -2)) .. '0'
end

-- ENTRIES and VERSION of a head after one more entry, and the number of that entry. Most jobs of a script have the same,
-- so it is computed once.
local following, numbers = {}, {}
local function one_entry_more(head)
  local counts = sub(head, ENTRIES_AT, VERSION_TO)
  local next = following[counts]
  if not next then
    local entries = sub(head, ENTRIES_AT, ENTRIES_TO)
    next = increment(entries) .. increment(sub(head, VERSION_AT, VERSION_TO))
    following[counts], numbers[counts] = next, format('%d', tonumber(entries))
  end
  return next, numbers[counts]
end

local JOB = base .. 'job:'

-- What is to be added to and taken from sorted sets and counts; written at the end, each key once.
local added, removed, counted = {}, {}, {}

local function add(key, member)
  local list = added[key]
  if not list then
    list = { count = 0 }
    added[key] = list
  end
  local count = list.count
  list[count + 1] = '0'
  list[count + 2] = member
  list.count = count + 2
end

local function remove(key, member)
  local list = removed[key]
  if not list then
    list = { count = 0 }
    removed[key] = list
  end
  local count = list.count + 1
  list[count] = member
  list.count = count
end

-- Counts jobs of a lane in a state, which is the byte of its digit.
local function count(lane, state, by)
  local lanes = counted[state]
  if not lanes then
    lanes = {}
    counted[state] = lanes
  end
  lanes[lane] = (lanes[lane] or 0) + by
end

local function write_lists(command, lists)
  for key, list in pairs(lists) do
    for first = 1, list.count, PIECE do
      call(command, base .. key, unpack(list, first, math.min(first + PIECE - 1, list.count)))
    end
  end
end

local function add_to_count(field, by)
  if by ~= 0 then
    call('HINCRBY', base .. 'counts', field, format('%d', by))
  end
end

local function write_indexes()
  write_lists('ZREM', removed)
  write_lists('ZADD', added)
  for state, lanes in pairs(counted) do
    for lane, by in pairs(lanes) do
      add_to_count(lane .. string.char(state), by)
    end
  end
end

local AWAITING, SCHEDULED, ENQUEUED, PROCESSING = byte('0123', 1, 4)
local STATE_KEYS = {}
for state = 0, 9 do
  STATE_KEYS[AWAITING + state] = 'state:' .. state
end

-- The place of a job in its line. The end says how a claim reads it: where there is little to read, at once.
local function line_member(head, id)
  -- Only of jobs with one entry is that all; that a number ends in 01 is asked faster.
  local is_small = byte(head, SMALL_AT) == 115 and byte(head, ENTRIES_TO) == 49 and byte(head, ENTRIES_TO - 1) == 48
  return sub(head, PRIORITY_AT, ENQUEUED_TO) .. id .. (is_small and 's' or '-')
end

-- Does one thing (add or remove) with a job in every index that its present state puts it in.
local function place(id, head, act, by)
  local lane, state = sub(head, LANE_AT, LANE_TO), byte(head, STATE_AT)
  act(STATE_KEYS[state], sub(head, UPDATED_AT))
  count(lane, state, by)
  if state == ENQUEUED then
    act('ready:' .. lane, line_member(head, id))
  elseif state == SCHEDULED then
    act('due', sub(head, SCHEDULED_AT, SCHEDULED_TO) .. id .. lane)
  elseif state == AWAITING and byte(head, AWAITED_AT) ~= 45 then
    act('awaiting:' .. sub(head, AWAITED_AT, AWAITED_TO), sub(head, CREATED_AT, CREATED_TO) .. id .. lane)
  end
  if byte(head, RECURRING_AT) == 114 then
    local recurring = call('HGET', JOB .. id, 'r') or ''
    act('recurring:' .. string.char(state) .. ':' .. recurring, sub(head, CREATED_AT, CREATED_TO) .. id .. lane)
  end
end

-- The instant of a new entry: now, or that of the entry before if that is later.
local function not_before(head, now)
  local updated = sub(head, UPDATED_AT, UPDATED_TO)
  return updated > now and updated or now
end

-- Whether a text is a head, and of a job in this state.
local function is_in(head, state)
  return head and #head == LANE_TO and byte(head, STATE_AT) == state
end

-- Moves a job from the places of one head to those of another.
local function move(id, from, to)
  place(id, from, remove, -1)
  place(id, to, add, 1)
end

-- Removes a job and all that belongs to it; tells whether it was there.
local function forget(id)
  local key = JOB .. id
  local stored = call('HMGET', key, 'h', 'b')
  local head, labels = stored[1], stored[2]
  if not head then
    return false
  end
  place(id, head, remove, -1)
  local member = sub(head, CREATED_AT, CREATED_TO) .. sub(head, ID_AT)
  remove('created', member)
  if labels then
    for label in string.gmatch(labels, '[^\n]+') do
      remove('label:' .. label, member)
    end
  end
  call('UNLINK', key, base .. 'data:' .. id)
  return true
end
