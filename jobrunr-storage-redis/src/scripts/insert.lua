-- Stores new jobs; returns the ids of those that were there already.
local era, lanes, lanes_key = argument(), {}, base .. 'lanes'
for index = 1, number() do
  local name = argument()
  local lane = call('HGET', lanes_key, name)
  if not lane then
    call('HSETNX', lanes_key, '', era)
    lane = format('%08d', call('HLEN', lanes_key))
    call('HSET', lanes_key, name, lane)
  end
  lanes[index] = lane
end

local present, successes = {}, 0
for _ = 1, number() do
  local lane, update_and_id, created_and_id, rest = lanes[number()], argument(), argument(), argument()
  local id = sub(created_and_id, 21)
  local head, key = update_and_id .. lane .. rest, JOB .. id
  local fields = 2 * number()
  if call('EXISTS', key) == 1 then
    present[#present + 1] = id
    next_argument = next_argument + fields
    next_argument = next_argument + number()
    next_argument = next_argument + 2 * number()
    argument()
  else
    if fields < PIECE then
      call('HSET', key, 'h', head, unpack(ARGV, next_argument + 1, next_argument + fields))
      next_argument = next_argument + fields
    else
      call('HSET', key, 'h', head)
      pass_on('HSET', key, fields)
    end
    local member = created_and_id .. lane
    place(id, head, add, 1)
    add('created', member)
    for _ = 1, number() do
      add('label:' .. argument(), member)
    end
    pass_on('HSET', base .. 'data:' .. id, 2 * number())
    successes = successes + number()
  end
end
write_indexes()
add_to_count('succeeded', successes)
return present
