-- Saves a recurring job; returns its version, or nothing if it is not at the version that was loaded.
-- What is stored: version, a blank, when it is due (or `-`), a blank, JSON.
local id, loaded, due, json = argument(), argument(), argument(), argument()
local stored = call('HGET', base .. 'tasks', id)
local version, old_due
if stored then
  version, old_due = string.match(stored, '^(%d+) (%S+) ')
end
if loaded ~= '0' and loaded ~= version then
  return ''
end
version = version and increment(version) or '1'
if old_due and old_due ~= '-' then
  call('ZREM', base .. 'task-due', old_due .. id)
end
if due ~= '-' then
  call('ZADD', base .. 'task-due', '0', due .. id)
end
call('HSET', base .. 'tasks', id, version .. ' ' .. due .. ' ' .. json)
call('ZADD', base .. 'task-ids', '0', id)
return version
