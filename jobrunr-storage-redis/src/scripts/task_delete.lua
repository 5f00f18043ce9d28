-- Removes a recurring job; tells whether there was one.
local id = argument()
local stored = call('HGET', base .. 'tasks', id)
if not stored then
  return 0
end
local due = string.match(stored, '^%d+ (%S+) ')
if due and due ~= '-' then
  call('ZREM', base .. 'task-due', due .. id)
end
call('ZREM', base .. 'task-ids', id)
call('HDEL', base .. 'tasks', id)
return 1
