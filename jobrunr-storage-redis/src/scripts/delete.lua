-- Removes jobs by id; returns how many there were.
local gone = 0
for index = 1, #ARGV do
  if forget(ARGV[index]) then
    gone = gone + 1
  end
end
write_indexes()
return gone
