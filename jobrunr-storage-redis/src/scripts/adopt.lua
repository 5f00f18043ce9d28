-- Looks for jobs of a server that a claim took whose answer was lost, and marks them as this claim's; returns the member
-- looked at last, then the head of each. Does not look at more than a page.
local after, limit, token, server = argument(), number(), argument(), argument()
local lost = {}
for _ = 1, number() do
  lost[argument()] = true
end
local members = call('ZRANGEBYLEX', base .. 'state:3', after, '+', 'LIMIT', 0, 500)
local found = { '' }
for index = 1, #members do
  local id = sub(members[index], 21, 52)
  local key = JOB .. id
  local head = call('HGET', key, 'h')
  if
    is_in(head, PROCESSING)
    and sub(head, SERVER_AT, SERVER_TO) == server
    and lost[sub(head, TOKEN_AT, TOKEN_TO)]
  then
    local changed = sub(head, 1, FAILURE_TO) .. token .. sub(head, RECURRING_AT)
    call('HSET', key, 'h', changed)
    found[#found + 1] = changed
    if #found > limit then
      return found
    end
  end
end
if #members == 500 then
  found[1] = members[500]
end
return found
