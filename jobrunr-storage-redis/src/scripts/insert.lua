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

local present = {}
for _ = 1, number() do
  local id, lane, rest, successes = argument(), lanes[number()], argument(), number()
  local fields = {}
  for index = 1, 2 * number() do
    fields[index] = argument()
  end
  local labels = {}
  for index = 1, number() do
    labels[index] = argument()
  end
  local data = {}
  for index = 1, 2 * number() do
    data[index] = argument()
  end
  local head, key = lane .. rest, job_key(id)
  if call('HSETNX', key, 'h', head) == 0 then
    present[#present + 1] = id
  else
    in_pieces('HSET', key, fields)
    in_pieces('HSET', base .. 'data:' .. id, data)
    place(id, head, add, 1)
    local member = sub(head, CREATED_AT, CREATED_TO) .. id .. lane
    add('created', member)
    for index = 1, #labels do
      add('label:' .. labels[index], member)
    end
    count('succeeded', successes)
  end
end
write_indexes()
return present
