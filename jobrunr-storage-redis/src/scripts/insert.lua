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

-- Of each job first its head up to the lane, which ends with the id, and the number of the lane.
local jobs = number()
local heads, ids, keys = {}, {}, {}
for index = 1, jobs do
  local id
  heads[index] = argument()
  id = sub(heads[index], ID_AT)
  ids[index], keys[index] = id, JOB .. id
  heads[index] = heads[index] .. lanes[number()]
end
-- Almost always none of them is there, which one command tells.
local are_new = jobs > 0 and jobs < PIECE and call('EXISTS', unpack(keys)) == 0

local present, successes = {}, 0
for index = 1, jobs do
  local head, id, key = heads[index], ids[index], keys[index]
  local fields = 2 * number()
  if not are_new and call('EXISTS', key) == 1 then
    present[#present + 1] = id
    next_argument = next_argument + fields
    if argument() == '1' then
      next_argument = next_argument + number()
      next_argument = next_argument + 2 * number()
      argument()
    end
  else
    if fields < PIECE then
      call('HSET', key, 'h', head, unpack(ARGV, next_argument + 1, next_argument + fields))
      next_argument = next_argument + fields
    else
      call('HSET', key, 'h', head)
      pass_on('HSET', key, fields)
    end
    local member = sub(head, CREATED_AT, CREATED_TO) .. sub(head, ID_AT)
    place(id, head, add, 1)
    add('created', member)
    -- Whether labels, metadata and successes follow.
    if argument() == '1' then
      for _ = 1, number() do
        add('label:' .. argument(), member)
      end
      pass_on('HSET', base .. 'data:' .. id, 2 * number())
      successes = successes + number()
    end
  end
end
write_indexes()
add_to_count('succeeded', successes)
return present
