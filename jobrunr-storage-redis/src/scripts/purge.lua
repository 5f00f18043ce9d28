-- Removes the jobs of a state that were updated first; returns how many, and the member looked at last, or nothing if
-- there are no more. Does not look at more than a page, which is no longer than it has to be.
local state, before, after, limit, mode = argument(), argument(), argument(), number(), argument()
local listed = {}
for _ = 1, number() do
  listed[argument()] = true
end
local page = mode == 'all' and limit or 500
local members = call('ZRANGEBYLEX', base .. 'state:' .. state, after, '(' .. before, 'LIMIT', 0, page)
local gone, last = 0, ''
for index = 1, #members do
  local member = members[index]
  if mode == 'all' or (mode == 'only') == (listed[sub(member, 53)] or false) then
    forget(sub(member, 21, 52))
    gone = gone + 1
  end
  if gone == limit or index == page then
    last = member
    break
  end
end
write_indexes()
return { gone, last }
