-- Tells which schema there is, and makes it this one if there is none and that is wanted.
local key, number, makes = base .. 'schema', argument(), argument()
local stored = call('GET', key)
if not stored and makes == 'yes' then
  call('SET', key, number)
  stored = number
end
return stored or ''
