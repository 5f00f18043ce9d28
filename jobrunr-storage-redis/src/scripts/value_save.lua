-- Saves a value over what was there: creation, update, value. With an expectation only if it is what is there; tells
-- whether it was saved.
local name, owner, created, updated, value, mode, expected =
  argument(), argument(), argument(), argument(), argument(), argument(), argument()
local key = base .. 'values:' .. name
local stored = call('HGET', key, owner)
if mode == 'absent' and stored then
  return 0
end
if mode == 'equal' and not (stored and sub(stored, 41) == expected) then
  return 0
end
if stored then
  created = sub(stored, 1, 20)
end
call('HSET', key, owner, created .. updated .. value)
return 1
