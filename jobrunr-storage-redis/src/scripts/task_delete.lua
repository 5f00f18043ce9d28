-- Removes a recurring job, if it is at the version given or none was; tells whether it did.
local id, loaded = argument(), argument()
local stored = call('HGET', base .. 'tasks', id)
if not stored then
  return 0
end
local version, due = string.match(stored, '^(%d+) (%S+) ')
if loaded ~= '0' and loaded ~= version then
  return 0
end
if due and due ~= '-' then
  call('ZREM', base .. 'task-due', due .. id)
end
call('ZREM', base .. 'task-ids', id)
call('HDEL', base .. 'tasks', id)
return 1
